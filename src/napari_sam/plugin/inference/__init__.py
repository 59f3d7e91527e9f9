"""Ask the model: requests, hover, and encoding ahead."""
