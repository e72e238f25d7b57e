"""The small trained models that play users and start agents by default, and the command that rebuilds them."""
