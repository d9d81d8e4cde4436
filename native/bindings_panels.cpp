// What Python sees of packed weights that are mapped: arguments and meaning are those of mapped_panels.h.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cerrno>
#include <exception>
#include <system_error>

#include "mapped_panels.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lepton {

void bind_mapped_panels(nb::module_& m) {
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::system_error& error) {
      errno = error.code().value();
      PyErr_SetFromErrno(PyExc_OSError);
    }
  });
  nb::class_<MappedPanels>(m, "MappedPanels")
      .def(nb::init<int, int64_t, int64_t>(), nb::kw_only(), "descriptor"_a, "offset"_a, "num_bytes"_a,
           nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro(
          "data",
          [](const MappedPanels& p) {
            return nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>>(p.data(), {static_cast<size_t>(p.num_bytes())});
          },
          nb::rv_policy::reference_internal)
      .def("begin", &MappedPanels::begin)
      .def("settle", &MappedPanels::settle, "seconds"_a, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace lepton
