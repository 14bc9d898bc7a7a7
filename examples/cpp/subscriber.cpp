// Print the tip of the index finger of every hand: all that a program needs to follow the stream.
//
//     cmake -S . -B build && cmake --build build        (see CMakeLists.txt for the packages)
//     build/subscriber [ENDPOINT] [NUMBER_OF_MESSAGES]
//
// Joints are metres: in `space` "camera" x right, y down, z forward; in "world" z up.

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <msgpack.hpp>
#include <zmq.hpp>
#include <zmq_addon.hpp>

using Fields = std::map<std::string, msgpack::object>;

constexpr int VERSION = 1;
constexpr int SILENCE_MS = 3000;  // a tracker that runs sends its status every second, whether it sees hands or not
// The status message has the names of all joints, in their order.
const std::map<std::string, std::size_t> INDEX_TIP{{"hand21", 8}, {"openxr26", 10}};
const msgpack::unpack_limit LIMITS(1024, 1024, 1024, 0, 0, 16);  // items, bytes of text, depth: room for 32 hands

// The newest message that waits on each topic, still packed; none if nothing came for SILENCE_MS.
// (ZeroMQ's CONFLATE option would keep the newest too, but breaks messages of two parts.)
std::map<std::string, zmq::message_t> newest_messages(zmq::socket_t& socket) {
    std::map<std::string, zmq::message_t> newest;
    for (;;) {
        socket.set(zmq::sockopt::rcvtimeo, newest.empty() ? SILENCE_MS : 0);
        std::vector<zmq::message_t> parts;
        if (!zmq::recv_multipart(socket, std::back_inserter(parts))) return newest;
        newest[parts.at(0).to_string()] = std::move(parts.at(1));
    }
}

void print_hands(Fields& message) {
    const auto skeleton = message.at("skeleton").as<std::string>();
    if (INDEX_TIP.count(skeleton) == 0) {
        throw std::runtime_error("skeleton \"" + skeleton + "\" arrived, this program does not know it");
    }
    const std::size_t index = INDEX_TIP.at(skeleton);
    for (Fields& hand : message.at("hands").as<std::vector<Fields>>()) {  // none if no hand is seen
        const auto joint = hand.at("joints").as<std::vector<std::array<double, 3>>>().at(index);
        const bool tracked = hand.at("joint_tracked").as<std::vector<bool>>().at(index);
        std::printf("%s %lld %s #%lld %.2f index tip ", message.at("camera").as<std::string>().c_str(),
                    message.at("frame").as<long long>(), hand.at("side").as<std::string>().c_str(),
                    hand.at("id").as<long long>(), hand.at("confidence").as<double>());
        if (std::isnan(joint[0])) {
            std::printf("unknown\n");
        } else {
            std::printf("%+.3f %+.3f %+.3f m %s\n", joint[0], joint[1], joint[2], tracked ? "seen" : "inferred");
        }
    }
    std::fflush(stdout);
}

int main(int count, char** arguments) try {
    const std::string endpoint = count > 1 ? arguments[1] : "tcp://127.0.0.1:5556";
    long remaining = count > 2 ? std::atol(arguments[2]) : std::numeric_limits<long>::max();

    zmq::context_t context;
    zmq::socket_t socket(context, zmq::socket_type::sub);
    socket.set(zmq::sockopt::maxmsgsize, std::int64_t{1} << 20);  // nothing that a tracker sends comes near
    try {
        socket.connect(endpoint);  // the tracker may start later
    } catch (const zmq::error_t& error) {
        throw std::runtime_error("endpoint \"" + endpoint + "\": " + error.what());
    }
    socket.set(zmq::sockopt::subscribe, "hands.");  // every camera; "hands.simulated" would be that one
    socket.set(zmq::sockopt::subscribe, "status.");

    while (remaining > 0) {
        const auto newest = newest_messages(socket);
        if (newest.empty()) std::fprintf(stderr, "silence: no tracker publishes on %s\n", endpoint.c_str());
        for (const auto& [topic, data] : newest) {
            const msgpack::object_handle unpacked =
                msgpack::unpack(data.data<char>(), data.size(), nullptr, nullptr, LIMITS);
            Fields message = unpacked->as<Fields>();  // points into `unpacked`
            const int version = message.at("version").as<int>();
            if (version != VERSION) {
                throw std::runtime_error("protocol version " + std::to_string(version) +
                                         " arrived, this program reads version " + std::to_string(VERSION));
            }
            if (topic.rfind("hands.", 0) == 0) {
                print_hands(message);
                --remaining;
            } else if (message.at("fps").as<double>() == 0) {
                std::fprintf(stderr, "camera %s gives no frames\n", message.at("camera").as<std::string>().c_str());
            }
        }
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
