// All ops. Each is one function: it checks its arguments, computes, and records its gradient.
#pragma once

#include <triad/autograd/creation.h>
#include <triad/autograd/cuda/mlp.h>
#include <triad/autograd/elementwise.h>
#include <triad/autograd/fourier.h>
#include <triad/autograd/indexing.h>
#include <triad/autograd/neural.h>
#include <triad/autograd/products.h>
#include <triad/autograd/reductions.h>
#include <triad/autograd/views.h>
