"""Where jobs run: processes of this machine, one for each of its devices."""
