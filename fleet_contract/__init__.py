"""What every edgefleet program must agree on: topics, messages, orders, bundles, sketches, blocks, limits."""
