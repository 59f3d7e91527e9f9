"""Recording: keep what followers have found, so that no plane is followed twice."""
