"""Functions of the names that SDKs have, for CMake and C on a PC: enough to configure, build and run a short main.

They take what the SDK's documentation says that they take, and refuse anything else.
After STEPS periods the program ends.
"""

from __future__ import annotations

from collections.abc import Mapping

STEPS = 4

LOOP = """#pragma once
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
static unsigned periods, fed;
static inline void period_over(unsigned milliseconds)
{
    if (fed != periods) { printf("not fed\\n"); exit(3); }
    if (periods++ == %d) { printf("ended after %%u ms each\\n", milliseconds); exit(0); }
}
""" % STEPS  # noqa: UP031

ESP_IDF: Mapping[str, str] = {
    "tools/cmake/project.cmake": """
macro(project name)
  _project(${name} C)
  include_directories($ENV{IDF_PATH}/include)
  file(GLOB components ${CMAKE_SOURCE_DIR}/components/*)
  foreach(component ${components} ${CMAKE_SOURCE_DIR}/main)
    get_filename_component(COMPONENT_NAME ${component} NAME)
    add_subdirectory(${component} ${COMPONENT_NAME})
  endforeach()
  file(WRITE ${CMAKE_BINARY_DIR}/start.c "void app_main(void); int main(void) { app_main(); return 1; }")
  add_executable(${name}.elf ${CMAKE_BINARY_DIR}/start.c)
  target_link_libraries(${name}.elf main)
endmacro()
function(idf_component_register)
  cmake_parse_arguments(PARSE_ARGV 0 own "" "" "SRCS;INCLUDE_DIRS;REQUIRES;PRIV_REQUIRES")
  if(own_UNPARSED_ARGUMENTS OR NOT own_SRCS)
    message(FATAL_ERROR "idf_component_register: ${own_UNPARSED_ARGUMENTS}")
  endif()
  add_library(${COMPONENT_NAME} STATIC ${own_SRCS})
  foreach(folder ${own_INCLUDE_DIRS})
    if(NOT IS_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
      message(FATAL_ERROR "no folder ${folder}")
    endif()
    target_include_directories(${COMPONENT_NAME} PUBLIC ${folder})
  endforeach()
  if(COMPONENT_NAME STREQUAL main) # which sees every component
    foreach(path ${components})
      get_filename_component(component ${path} NAME)
      target_link_libraries(main ${component})
    endforeach()
  endif()
endfunction()
""",
    "include/freertos/FreeRTOS.h": LOOP + """
typedef uint32_t TickType_t;
typedef void *TaskHandle_t;
#define pdMS_TO_TICKS(ms) ((TickType_t)(ms))
""",
    "include/freertos/task.h": """#pragma once
static inline TickType_t xTaskGetTickCount(void) { return 0; }
static inline void vTaskDelayUntil(TickType_t *due, TickType_t ticks) { *due += ticks; period_over(ticks); }
""",
    "include/esp_task_wdt.h": """#pragma once
#include "freertos/FreeRTOS.h"
typedef int esp_err_t;
#define ESP_ERROR_CHECK(call) do { if ((call) != 0) abort(); } while (0)
static inline esp_err_t esp_task_wdt_add(TaskHandle_t task) { return task != NULL; }
static inline esp_err_t esp_task_wdt_reset(void) { fed++; return 0; }
""",
}

PICO: Mapping[str, str] = {
    "pico_sdk_init.cmake": """
set(PICO_SDK ${CMAKE_CURRENT_LIST_DIR})
macro(pico_sdk_init)
  foreach(library pico_stdlib hardware_watchdog)
    add_library(${library} INTERFACE)
    target_include_directories(${library} INTERFACE ${PICO_SDK}/include)
  endforeach()
endmacro()
function(pico_enable_stdio_usb target enabled)
  if(NOT TARGET ${target})
    message(FATAL_ERROR "no target ${target}")
  endif()
endfunction()
function(pico_add_extra_outputs target)
  if(NOT TARGET ${target})
    message(FATAL_ERROR "no target ${target}")
  endif()
endfunction()
""",
    "include/pico/stdlib.h": LOOP + """
typedef uint64_t absolute_time_t;
static inline void stdio_init_all(void) {}
static inline void sleep_ms(uint32_t ms) { if (ms > 60000) abort(); }
static inline absolute_time_t get_absolute_time(void) { return 1; }
static inline absolute_time_t delayed_by_ms(absolute_time_t t, uint32_t ms) { return t + 1000u * ms; }
static uint64_t woken = 1;
static inline void sleep_until(absolute_time_t t) { period_over((unsigned)((t - woken) / 1000)); woken = t; }
static inline void watchdog_enable(uint32_t ms, bool pause_on_debug) { if (ms == 0 || !pause_on_debug) abort(); }
static inline void watchdog_update(void) { fed++; }
""",
    "include/hardware/watchdog.h": "",
}

ZEPHYR: Mapping[str, str] = {
    "share/zephyr-package/cmake/ZephyrConfig.cmake": """
set(root ${CMAKE_CURRENT_LIST_DIR}/../../..)
enable_language(C)
file(WRITE ${CMAKE_BINARY_DIR}/empty.c "typedef int empty;")
add_library(app OBJECT ${CMAKE_BINARY_DIR}/empty.c)
add_executable(zephyr_elf ${CMAKE_BINARY_DIR}/empty.c)
add_library(zephyr_interface INTERFACE)
target_include_directories(zephyr_interface INTERFACE ${root}/include)
target_link_libraries(app PUBLIC zephyr_interface)
target_link_libraries(zephyr_elf app)
# prj.conf, whose symbols have to be there in Kconfig.
file(STRINGS ${CMAKE_SOURCE_DIR}/prj.conf lines REGEX "^CONFIG_")
foreach(line ${lines})
  string(REGEX MATCH "^(CONFIG_([A-Z0-9_]+))=(.*)$" found ${line})
  set(${CMAKE_MATCH_1} ${CMAKE_MATCH_3})
  list(APPEND asked ${CMAKE_MATCH_2})
endforeach()
set(known WATCHDOG)
function(zephyr_library)
  get_filename_component(name ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(ZEPHYR_CURRENT_LIBRARY module_${name} PARENT_SCOPE)
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/empty.c "typedef int empty;")
  add_library(module_${name} STATIC ${CMAKE_CURRENT_BINARY_DIR}/empty.c)
  target_link_libraries(module_${name} PUBLIC zephyr_interface)
  target_link_libraries(app PUBLIC module_${name})
endfunction()
function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGV})
endfunction()
function(zephyr_include_directories)
  foreach(folder ${ARGV})
    get_filename_component(path ${folder} ABSOLUTE)
    target_include_directories(zephyr_interface INTERFACE ${path})
  endforeach()
endfunction()
foreach(module ${ZEPHYR_EXTRA_MODULES})
  file(STRINGS ${module}/zephyr/module.yml lines)
  foreach(line ${lines})
    if(line MATCHES "^ *(cmake|kconfig|name): (.+)$")
      set(module_${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
    endif()
  endforeach()
  file(STRINGS ${module}/${module_kconfig} symbols REGEX "^config ")
  foreach(symbol ${symbols})
    string(REPLACE "config " "" symbol ${symbol})
    list(APPEND known ${symbol})
  endforeach()
  add_subdirectory(${module}/${module_cmake} modules/${module_name})
endforeach()
foreach(symbol ${asked})
  if(NOT symbol IN_LIST known)
    message(FATAL_ERROR "prj.conf: no symbol ${symbol}")
  endif()
endforeach()
""",
    "include/zephyr/kernel.h": LOOP + """
struct k_timer { unsigned period; };
#define K_TIMER_DEFINE(name, expiry, stop) static struct k_timer name
#define K_MSEC(ms) (ms)
#define printk printf
static inline void k_timer_start(struct k_timer *t, unsigned first, unsigned period) { t->period = period + 0 * first; }
static inline uint32_t k_timer_status_sync(struct k_timer *t) { period_over(t->period); return 1; }
static inline int wdt_feed(const struct device *dev, int channel) { fed++; return dev == NULL || channel != 0; }
""",
    "include/zephyr/device.h": """#pragma once
#include <stdint.h>
#include <stddef.h>
struct device { int number; };
static const struct device only_device;
static inline int device_is_ready(const struct device *dev) { return dev != NULL; }
#define DT_ALIAS(alias) (&only_device)
#define DEVICE_DT_GET_OR_NULL(node) (node)
""",
    "include/zephyr/drivers/watchdog.h": """#pragma once
#define WDT_FLAG_RESET_SOC 2
#define WDT_OPT_PAUSE_HALTED_BY_DBG 2
struct wdt_window { uint32_t min, max; };
typedef void (*wdt_callback_t)(const struct device *dev, int channel_id);
struct wdt_timeout_cfg { struct wdt_window window; wdt_callback_t callback; uint8_t flags; };
static inline int wdt_install_timeout(const struct device *dev, const struct wdt_timeout_cfg *cfg)
{ return dev == NULL || cfg->window.max == 0 ? -1 : 0; }
static inline int wdt_setup(const struct device *dev, uint8_t options) { return dev == NULL || options == 0; }
""",
}

SDKS: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "esp-idf": ("IDF_PATH", ESP_IDF, "tiny.elf"),
    "zephyr": ("ZEPHYR_BASE", ZEPHYR, "zephyr_elf"),
    "pico-sdk": ("PICO_SDK_PATH", PICO, "tiny_main"),
}
"""Kind of project -> the variable that says where its SDK is, the SDK's files, the program that comes out."""
