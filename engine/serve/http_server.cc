#include "serve/http_server.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <chrono>
#include <optional>

namespace holdfast::serve {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using tcp = asio::ip::tcp;
using Code = boost::system::error_code;

constexpr std::uint64_t kBodyLimit = 1 << 20;
constexpr std::uint32_t kHeaderLimit = 16 << 10;
constexpr auto kRequestLimit = std::chrono::seconds(15);  // For a request to arrive, or a connection to be idle.
constexpr auto kTick = std::chrono::milliseconds(50);
constexpr int kConnections = 4096;

std::string decode(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() && std::sscanf(std::string(text.substr(i + 1, 2)).c_str(), "%2x", &value) == 1) {
      plain += static_cast<char>(value);
      i += 2;
    } else {
      plain += text[i] == '+' ? ' ' : text[i];
    }
  }
  return plain;
}

Request read_target(std::string_view method, std::string_view target) {
  Request request;
  request.method = method;
  std::size_t mark = target.find('?');
  request.path = decode(target.substr(0, mark));
  while (mark != std::string_view::npos) {
    target.remove_prefix(mark + 1);
    mark = target.find('&');
    std::string_view pair = target.substr(0, mark);
    std::size_t equals = pair.find('=');
    request.query[decode(pair.substr(0, equals))] = equals == std::string_view::npos ? "" : decode(pair.substr(equals + 1));
  }
  return request;
}

bool is_same_token(std::string_view given, const std::string& token) {
  constexpr std::string_view kScheme = "Bearer ";
  if (given.substr(0, kScheme.size()) != kScheme) return false;
  given.remove_prefix(kScheme.size());
  // In a time that does not tell where they differ.
  return given.size() == token.size() && CRYPTO_memcmp(given.data(), token.data(), token.size()) == 0;
}

}  // namespace

struct HttpServer::Impl {
  std::optional<asio::ssl::context> tls;
  std::string token;
  Handler handler;
  IsOpen is_open;
  int connections = 0;
  // Last, so gone first: with it end the connections that wait in it, which use the above.
  asio::io_context context{1};
  tcp::acceptor acceptor{context};

  Response answer(http::request<http::string_body>& message) {
    Request request = read_target(message.method_string(), message.target());
    if (!token.empty() && !is_open(request) && !is_same_token(message[http::field::authorization], token)) {
      return {401, R"({"detail":"a token is needed: Authorization: Bearer TOKEN"})"};
    }
    request.body = std::move(message.body());
    return handler(request);
  }

  void accept();
};

namespace {

/// One connection; lives as long as something is to be called back.
template <typename Stream>
class Session : public std::enable_shared_from_this<Session<Stream>> {
 public:
  template <typename... Arguments>
  Session(HttpServer::Impl& server, Arguments&&... arguments)
      : server_(server), stream_(std::forward<Arguments>(arguments)...) {
    ++server_.connections;
  }
  ~Session() { --server_.connections; }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void start() {
    beast::get_lowest_layer(stream_).expires_after(kRequestLimit);
    if constexpr (std::is_same_v<Stream, beast::tcp_stream>) {
      read();
    } else {
      auto self = this->shared_from_this();
      stream_.async_handshake(asio::ssl::stream_base::server, [self](Code problem) {
        if (!problem) self->read();
      });
    }
  }

 private:
  void read() {
    parser_.emplace();
    parser_->body_limit(kBodyLimit);
    parser_->header_limit(kHeaderLimit);
    beast::get_lowest_layer(stream_).expires_after(kRequestLimit);
    auto self = this->shared_from_this();
    http::async_read(stream_, buffer_, *parser_, [self](Code problem, std::size_t) { self->on_read(problem); });
  }

  void on_read(Code problem) {
    if (problem == http::error::end_of_stream) return close();
    if (problem == http::error::body_limit) return write({413, R"({"detail":"the body is larger than 1 MiB"})"}, false);
    if (problem == http::error::header_limit) return write({431, R"({"detail":"the headers are larger than 16 KiB"})"}, false);
    if (problem && problem.category() == http::make_error_code(http::error::bad_target).category()) {
      return write({400, fmt::format(R"({{"detail":"this is not HTTP: {}"}})", problem.message())}, false);
    }
    if (problem) return;
    http::request<http::string_body> message = parser_->release();
    bool keep = message.keep_alive();
    write(server_.answer(message), keep);
  }

  void write(Response response, bool keep) {
    reply_ = {};
    reply_.result(static_cast<unsigned>(response.status));
    reply_.version(11);
    reply_.set(http::field::content_type, response.type);
    reply_.set(http::field::server, "holdfast");
    if (response.status == 401) reply_.set(http::field::www_authenticate, "Bearer");
    reply_.body() = std::move(response.body);
    reply_.keep_alive(keep);
    reply_.prepare_payload();
    beast::get_lowest_layer(stream_).expires_after(kRequestLimit);
    auto self = this->shared_from_this();
    http::async_write(stream_, reply_, [self, keep](Code problem, std::size_t) {
      if (problem) return;
      keep ? self->read() : self->close();
    });
  }

  void close() {
    Code ignored;
    if constexpr (std::is_same_v<Stream, beast::tcp_stream>) {
      stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
      drain();
    } else {
      auto self = this->shared_from_this();
      stream_.async_shutdown([self](Code) {});
    }
  }

  // What a client still sends is read and thrown away for a while: closing at once would reset the connection, and with it the
  // answer that says what was wrong.
  void drain() {
    beast::get_lowest_layer(stream_).expires_after(std::chrono::seconds(2));
    auto self = this->shared_from_this();
    stream_.async_read_some(asio::buffer(waste_), [self](Code problem, std::size_t) {
      if (!problem && ++self->drained_ < 4096) self->drain();
    });
  }

  HttpServer::Impl& server_;
  Stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  http::response<http::string_body> reply_;
  char waste_[65536] = {};
  int drained_ = 0;
};

Status load_files(asio::ssl::context& tls, const HttpSettings& settings) {
  Code problem;
  problem = tls.set_options(
      asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1, problem);
  problem = tls.use_certificate_chain_file(settings.certificate, problem);
  if (problem)
    return fail(ErrorKind::UserMistake, fmt::format("use the certificate {}: {}", settings.certificate, problem.message()));
  problem = tls.use_private_key_file(settings.key, asio::ssl::context::pem, problem);
  if (problem) return fail(ErrorKind::UserMistake, fmt::format("use the key {}: {}", settings.key, problem.message()));
  return {};
}

}  // namespace

void HttpServer::Impl::accept() {
  acceptor.async_accept([this](Code problem, tcp::socket socket) {
    if (problem == asio::error::operation_aborted) return;
    if (!problem && connections < kConnections) {
      if (tls) {
        std::make_shared<Session<beast::ssl_stream<beast::tcp_stream>>>(*this, beast::tcp_stream(std::move(socket)), *tls)
            ->start();
      } else {
        std::make_shared<Session<beast::tcp_stream>>(*this, std::move(socket))->start();
      }
    }
    accept();
  });
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::open(const HttpSettings& settings, Handler handler, IsOpen is_open) {
  auto impl = std::make_unique<Impl>();
  impl->token = settings.token;
  impl->handler = std::move(handler);
  impl->is_open = std::move(is_open);
  if (!settings.certificate.empty()) {
    impl->tls.emplace(asio::ssl::context::tls_server);
    HOLDFAST_TRY(load_files(*impl->tls, settings));
  }
  Code problem;
  asio::ip::address address = asio::ip::make_address(settings.address, problem);
  if (problem) return fail(ErrorKind::UserMistake, fmt::format("listen on {}: not an IP address", settings.address));
  tcp::endpoint endpoint(address, static_cast<std::uint16_t>(settings.port));
  problem = impl->acceptor.open(endpoint.protocol(), problem);
  if (!problem) problem = impl->acceptor.set_option(tcp::acceptor::reuse_address(true), problem);
  if (!problem) problem = impl->acceptor.bind(endpoint, problem);
  if (!problem) problem = impl->acceptor.listen(asio::socket_base::max_listen_connections, problem);
  if (problem) {
    return fail(ErrorKind::UserMistake,
                fmt::format("listen on {} port {}: {}", settings.address, settings.port, problem.message()));
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

int HttpServer::port() const {
  Code problem;
  return impl_->acceptor.local_endpoint(problem).port();
}

void HttpServer::run(const std::function<void()>& tick) {
  asio::signal_set signals(impl_->context, SIGINT, SIGTERM, SIGHUP);
  signals.async_wait([this](Code problem, int) {
    if (!problem) impl_->context.stop();
  });
  asio::steady_timer timer(impl_->context);
  std::function<void(Code)> again = [&](Code problem) {
    if (problem) return;
    tick();
    timer.expires_after(kTick);
    timer.async_wait(again);
  };
  timer.expires_after(kTick);
  timer.async_wait(again);
  impl_->accept();
  impl_->context.run();
}

}  // namespace holdfast::serve
