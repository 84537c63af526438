"""The engine, from a choice to a record: it composes, plans, trains and records runs, alone or in sweeps."""
