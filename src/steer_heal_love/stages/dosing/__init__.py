"""What the dose stage is made of: how a dose is given, and which survivors are trained on."""
