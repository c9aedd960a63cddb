"""Contract suites and worlds with known answers; shipped, so that users can test their own components."""
