"""The data modules: one file per dataset, on top of `images`, which splits, orders and augments."""
