"""From a data folder to the state in memory: loading, mending what is damaged, and verifying all of it."""
