"""Random annotation sessions and simple models of what they must leave."""
