"""The machine: everything that knows about Ray, and the command line. It knows no loss."""
