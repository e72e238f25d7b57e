"""Questions of the literature, answered: what a study's claims are judged by."""
