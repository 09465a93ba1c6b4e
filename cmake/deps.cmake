# Libraries from Debian, found here and nowhere else. Nothing is vendored.
find_package(fmt 9 REQUIRED)
find_package(tl-expected 1.0 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)

# The static SQLite where there is one, so that the wheel's engine needs no library of the machine it runs on.
find_path(HOLDFAST_SQLITE_INCLUDE sqlite3.h REQUIRED)
find_library(HOLDFAST_SQLITE_LIBRARY NAMES libsqlite3.a sqlite3 REQUIRED)
find_package(Threads REQUIRED)
find_library(HOLDFAST_MATH_LIBRARY m)
add_library(holdfast_sqlite INTERFACE)
target_include_directories(holdfast_sqlite SYSTEM INTERFACE ${HOLDFAST_SQLITE_INCLUDE})
target_link_libraries(holdfast_sqlite INTERFACE ${HOLDFAST_SQLITE_LIBRARY} Threads::Threads ${CMAKE_DL_LIBS} ${HOLDFAST_MATH_LIBRARY})

# Static for the same reason. For connections to other machines (engine/wire/secure_link.h).
set(OPENSSL_USE_STATIC_LIBS TRUE)
find_package(OpenSSL 3.0 REQUIRED)

# Headers only (Beast, Asio), for engine/serve/http_server.cc.
find_path(HOLDFAST_BOOST_INCLUDE boost/beast.hpp REQUIRED)
add_library(holdfast_boost INTERFACE)
target_include_directories(holdfast_boost SYSTEM INTERFACE ${HOLDFAST_BOOST_INCLUDE})
target_compile_definitions(holdfast_boost INTERFACE BOOST_ERROR_CODE_HEADER_ONLY)
