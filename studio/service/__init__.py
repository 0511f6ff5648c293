"""Services shared by all visitors: the engine, admission, jobs, retention of files."""
