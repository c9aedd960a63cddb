"""Train, evaluate and compare, as functions the commands and the service call."""
