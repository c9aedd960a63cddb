"""How live experiments are measured and judged: always-valid intervals, guard-rails, interleaving."""
