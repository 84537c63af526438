"""How a network is trained: networks, the LightningModule, data modules. Knows no study and no arm."""
