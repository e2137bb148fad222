"""What is deleted or written anew in the background: what is replaced, dropped, expired, or series without rows."""
