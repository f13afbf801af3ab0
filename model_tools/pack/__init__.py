"""From checked models and the data they came from to the bundle that devices run."""
