"""Parts of every program: commands, options, exit codes, streams, child processes, files, tables, progress, plots."""
