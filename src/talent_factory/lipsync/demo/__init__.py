"""The whole way on two processor cores: drawn clips, a small network, a new sentence, figures, a page."""
