"""Train the network that decides on the masks of followed objects, after the compact model was trained."""
