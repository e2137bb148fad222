"""The first set-up: by a call, or from the environment of either image."""
