"""Files from outside: limits, checks and reading in a child process."""
