"""Real-time in-loan risk decisions for revolving credit."""
