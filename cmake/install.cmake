# cmake --install: the library, its headers as <triad/...>, and the package that find_package(triad) reads.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS triad EXPORT triad-targets)
install(FILES triad.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/triad)
foreach(folder core autograd nn)
  install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/triad FILES_MATCHING PATTERN "*.h")
endforeach()
install(EXPORT triad-targets NAMESPACE triad:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/triad)

configure_package_config_file(cmake/triad-config.cmake.in ${PROJECT_BINARY_DIR}/triad-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/triad)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/triad-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/triad-config.cmake ${PROJECT_BINARY_DIR}/triad-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/triad)
