"""From labelled rows to a torch module that takes raw pixels or units and gives logits."""
