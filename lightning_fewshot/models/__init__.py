"""The papers, one folder each. A folder here is all that a new paper needs: its ``__all__`` names its public classes."""
