"""The networks and the parts that they are made of: explicit arguments, no option known by name."""
