"""What is wrong with a data set before anything is learnt from it: rules, each from arrays to findings, and their verdict."""
