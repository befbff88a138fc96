"""Models of Fluid (PaddlePaddle): programs and parameters in, parameters out."""
