"""The papers, one folder each. A folder is all that a new paper needs: its ``__all__`` names its public classes."""
