"""Everything mode: propose, choose and write all objects of a plane."""
