// All of triad's public headers.
#pragma once

#include <triad/autograd/autograd.h>
#include <triad/autograd/gradcheck.h>
#include <triad/autograd/ops.h>
#include <triad/core/cuda/tf32.h>
#include <triad/core/random.h>
#include <triad/nn/batch_loader.h>
#include <triad/nn/cuda/graphed_step.h>
#include <triad/nn/init.h>
#include <triad/nn/optimizer.h>
#include <triad/nn/safetensors.h>
#include <triad/nn/transformer.h>
