# The CUDA backend: by nvcc, or, with TRIAD_CUDA=cpu, by the C++ compiler, to run on the CPU.
file(GLOB TRIAD_CUDA_SOURCES CONFIGURE_DEPENDS backends/cuda/*.cu)
file(GLOB callers CONFIGURE_DEPENDS backends/cuda/*.cpp)  # of CUDA's libraries

if(TRIAD_CUDA STREQUAL AUTO)
  find_package(CUDAToolkit 12.4 QUIET)
  set(cuda ${CUDAToolkit_FOUND})
elseif(TRIAD_CUDA STREQUAL cpu)
  set(cuda OFF)
  set(TRIAD_HAS_CUDA ON)
  file(GLOB stand_ins CONFIGURE_DEPENDS tests/cuda_on_cpu/*.cpp)
  set_source_files_properties(${TRIAD_CUDA_SOURCES} PROPERTIES LANGUAGE CXX)
  target_sources(triad PRIVATE ${TRIAD_CUDA_SOURCES} ${callers} ${stand_ins})
  target_include_directories(triad PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/tests/cuda_on_cpu>)
  target_compile_definitions(triad PUBLIC TRIAD_CUDA TRIAD_CUDA_ON_CPU)
  target_compile_options(triad PUBLIC $<BUILD_INTERFACE:-Wno-unknown-pragmas>)  # nvcc's, of loops
  # With sanitizers it is the CUDA kernels that are looked at, not what every step of every thread
  # goes through, nor the CPU's kernels, which a build without CUDA looks at.
  if(TRIAD_SANITIZE)
    file(GLOB of_cpu CONFIGURE_DEPENDS backends/cpu/*.cpp)
    set_source_files_properties(${of_cpu} PROPERTIES COMPILE_OPTIONS -fno-sanitize=all)
    set_source_files_properties(tests/cuda_on_cpu/simt.cpp tests/cuda_on_cpu/fiber.cpp PROPERTIES
      COMPILE_OPTIONS "-O2;-fno-sanitize=undefined;--param=asan-instrument-reads=0;--param=asan-instrument-writes=0;--param=asan-stack=0")
  endif()
  # What a thread has not written is no zero. (GCC thinks of rows of no columns, of which nothing is used.)
  set_source_files_properties(${TRIAD_CUDA_SOURCES} PROPERTIES
    COMPILE_OPTIONS "-ftrivial-auto-var-init=pattern;-Wno-uninitialized")
else()
  set(cuda ${TRIAD_CUDA})
endif()

if(cuda)
  find_package(CUDAToolkit 12.4 REQUIRED)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90a)
    if(CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)
      list(APPEND CMAKE_CUDA_ARCHITECTURES 100)
    endif()
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE} CACHE FILEPATH "nvcc")
  endif()
  enable_language(CUDA)
  set(TRIAD_HAS_CUDA ON)
  set(for_hopper backends/cuda/attention_hopper.cu)  # by instructions that no other GPU has
  list(REMOVE_ITEM TRIAD_CUDA_SOURCES ${PROJECT_SOURCE_DIR}/${for_hopper})
  add_library(triad_hopper OBJECT ${for_hopper})
  target_sources(triad PRIVATE ${TRIAD_CUDA_SOURCES} ${callers} $<TARGET_OBJECTS:triad_hopper>)
  target_include_directories(triad_hopper PRIVATE ${PROJECT_BINARY_DIR}/include)
  target_compile_definitions(triad_hopper PRIVATE TRIAD_CUDA)
  target_compile_definitions(triad PUBLIC TRIAD_CUDA)
  foreach(target triad triad_hopper)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 --expt-relaxed-constexpr -Xcompiler=-fPIC,-Wall -Xptxas=-v>)
    set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}"
      CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/cmake/nvcc_logged.sh)
  endforeach()
  set_target_properties(triad_hopper PROPERTIES CUDA_ARCHITECTURES 90a)
  target_link_libraries(triad PRIVATE CUDA::cudart CUDA::cublasLt CUDA::cufft)
endif()
