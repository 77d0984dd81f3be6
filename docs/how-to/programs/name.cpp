// Names a picture with a file of `edgetl export RUN --raw-frame`, by OpenVINO.
#include <algorithm>
#include <fstream>
#include <iostream>
#include <openvino/openvino.hpp>
#include <string>
#include <vector>

int main(int count, char** words) try {
    if (count != 3) throw std::runtime_error("usage: name MODEL LABELS < PICTURE.ppm");
    std::vector<std::string> labels;
    std::ifstream lines(words[2]);
    for (std::string line; std::getline(lines, line);) labels.push_back(line);

    std::string magic;
    std::size_t width = 0, height = 0, largest = 0;
    std::cin >> magic >> width >> height >> largest;
    if (magic != "P6" || largest != 255 || width == 0 || height == 0 || width > 16384 || height > 16384)
        throw std::runtime_error("no binary PPM picture of 8 bits");
    std::cin.get();
    ov::Tensor image(ov::element::u8, {1, height, width, 3});  // RGB, as it is: the graph resizes
    if (!std::cin.read(static_cast<char*>(image.data()), image.get_byte_size()))
        throw std::runtime_error("the picture breaks off");

    ov::Core core;  // float32 stays float32, also on CPUs that have instructions for bfloat16
    auto model = core.compile_model(words[1], "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = model.create_infer_request();
    request.set_input_tensor(image);
    request.infer();
    const ov::Tensor answer = request.get_tensor("probabilities");
    if (labels.size() != answer.get_size()) throw std::runtime_error("there are not as many labels as classes");
    const float* first = answer.data<float>();
    const float* best = std::max_element(first, first + answer.get_size());
    std::cout << labels[best - first] << ' ' << *best << '\n';
} catch (const std::exception& error) {
    std::cerr << "name: " << error.what() << '\n';
    return 2;
}
