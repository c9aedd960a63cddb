"""A simulated shop whose truth is known: the demo, the test world, the environment of bandits."""
