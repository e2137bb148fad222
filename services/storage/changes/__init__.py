"""What the other services have storage change: appends, records, deletes; and what limits them."""
