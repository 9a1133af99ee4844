"""What users were shown and whether they clicked it: the data of models that rank."""
