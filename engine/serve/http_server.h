// An HTTP/1.1 server of one thread: TLS or not, a token or not, bounded requests, any number of connections up to a limit.
//
// It promises: the handler is called on the thread of run(), one request at a time; a request that is too large, too slow, not
// HTTP, or without the token never reaches it; a client that vanishes costs its connection.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"

namespace holdfast::serve {

struct Request {
  std::string method;  ///< GET, POST, ...
  std::string path;    ///< Without the query.
  std::map<std::string, std::string> query;
  std::string body;
};

struct Response {
  int status = 200;
  std::string body;
  std::string type = "application/json";
};

struct HttpSettings {
  std::string address = "127.0.0.1";
  int port = 8080;          ///< 0: one that is free.
  std::string token;        ///< Empty: none is asked for.
  std::string certificate;  ///< Files in PEM; both empty: no TLS.
  std::string key;
};

class HttpServer {
 public:
  using Handler = std::function<Response(const Request&)>;
  /// Whether a path is answered without the token.
  using IsOpen = std::function<bool(const Request&)>;

  /// Listens. Fails for an address that cannot be had and for files that are no certificate or key.
  static Result<std::unique_ptr<HttpServer>> open(const HttpSettings& settings, Handler handler, IsOpen is_open);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] int port() const;
  /// Serves until SIGINT, SIGTERM or SIGHUP; calls `tick` about every 50 ms.
  void run(const std::function<void()>& tick);

  struct Impl;

 private:
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace holdfast::serve
