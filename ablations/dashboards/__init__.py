"""What Weights & Biases shows of the project: a report, a summary run, and the way of offline runs there.

Studies, records, tables and figures go in; a report's specification, one more run and links come out. Nothing
here is read back: verdicts, tables and figures rest on records alone.
"""
