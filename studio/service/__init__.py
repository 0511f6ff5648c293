"""What all visitors share: the engine, and the jobs that use it."""
