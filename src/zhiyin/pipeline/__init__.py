"""Sources, merge, policy and presenter, put together, saved and served as one."""
