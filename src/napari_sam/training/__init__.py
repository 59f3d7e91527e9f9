"""Training by simulated prompts, for the compact model and for any SAM on a user's own labels."""
