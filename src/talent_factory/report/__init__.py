"""One self-contained page for every run: what went in, what was learnt, what comes out."""
