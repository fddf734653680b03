"""What every room stands on: errors, files, parameters, face sets, model folders, seeds, tensors."""
