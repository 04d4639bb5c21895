"""Every byte that outlives a process: SQL rows, picture bytes, and which model version is live."""
