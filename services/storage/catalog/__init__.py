"""What a database engine has to do for storage: the interfaces, the rows that pass, and the end when it fails."""
