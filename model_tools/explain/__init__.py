"""What a model looks at: measured by what happens when it is taken away, whatever the model is made of."""
