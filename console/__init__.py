"""What every program shares: exit codes, streams, tables, progress, whole files. Standard library only."""
