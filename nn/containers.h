// Modules in a list or under names, as a part of a module that calls them as it likes:
// for (auto& layer : layers) x = x + (*layer)(x);
#pragma once

#include <memory>

#include <triad/nn/module.h>

namespace triad::nn {

// Named 0, 1, ... T is what all of them are: Layer, one type, or Module.
template <class T = Layer> class ModuleList : public Module {
 public:
  template <class... M> explicit ModuleList(M... modules) { (push_back(std::move(modules)), ...); }
  template <class M> void push_back(M module) {
    modules_.push_back(std::make_unique<M>(std::move(module)));
  }
  std::size_t size() const { return modules_.size(); }
  T& operator[](std::size_t i) { return *modules_.at(i); }
  auto begin() const { return modules_.begin(); }
  auto end() const { return modules_.end(); }
  void visit(Visitor& visitor) override {
    for (std::size_t i = 0; i < size(); ++i) visitor(std::to_string(i), *modules_[i]);
  }
  std::string type_name() const override { return "ModuleList"; }

 private:
  std::vector<std::unique_ptr<T>> modules_;
};

// In the order of insertion: for (auto& [name, module] : dict).
template <class T = Layer> class ModuleDict : public Module {
 public:
  template <class M> void insert(const std::string& name, M module) {
    if (contains(name) || name.empty() || name.find('.') != name.npos)
      throw ValueError("ModuleDict: needs a new name without dots, got '" + name + "'");
    modules_.emplace_back(name, std::make_unique<M>(std::move(module)));
  }
  bool contains(const std::string& name) const { return find(name) != nullptr; }
  T& operator[](const std::string& name) {
    if (T* module = find(name)) return *module;
    throw ValueError("ModuleDict: needs a name that it has, got '" + name + "'");
  }
  auto begin() const { return modules_.begin(); }
  auto end() const { return modules_.end(); }
  void visit(Visitor& visitor) override {
    for (auto& [name, module] : modules_) visitor(name, *module);
  }
  std::string type_name() const override { return "ModuleDict"; }

 private:
  T* find(const std::string& name) const {
    for (auto& [key, module] : modules_)
      if (key == name) return module.get();
    return nullptr;
  }
  std::vector<std::pair<std::string, std::unique_ptr<T>>> modules_;
};

}  // namespace triad::nn
